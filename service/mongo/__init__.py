"""The connection to MongoDB, transactions, and the driver's short way."""
