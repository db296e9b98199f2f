"""The sandbox: the process that runs the model's code and holds its namespace."""
