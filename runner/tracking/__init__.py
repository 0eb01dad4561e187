"""The runner's side of the record: the journal it appends to, and the recorder process that copies it to MLflow."""
