"""The servers that are compared. Each file is what a competent user of its tools would write."""
