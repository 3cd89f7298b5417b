"""Files: their bytes, from the first part that comes to the last that goes."""
