"""From a document class to JSON and back."""
