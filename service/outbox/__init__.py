"""What has to be sent: stored with the write that causes it, and sent by a worker. A row of its own below identity."""
