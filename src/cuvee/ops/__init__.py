"""Small tensor functions that methods are made of, written against the Python array API standard."""
