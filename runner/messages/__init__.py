"""What is said to people: errors in a line, ranges in words, and no secret in either."""
