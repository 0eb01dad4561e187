"""Messages for users: errors, ranges in words, printing, and hiding secrets in all of them."""
