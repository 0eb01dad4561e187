"""Pictures and pages of the record."""
