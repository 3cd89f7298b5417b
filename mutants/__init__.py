"""Mutation tests: each small change of the modules that security stands on has to make a test fail."""
