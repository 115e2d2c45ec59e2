"""What a paper on a competition needs, written from its database once the final ranking is published."""
