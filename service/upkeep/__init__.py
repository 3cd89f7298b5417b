"""What is done to the stored data beside the service: indexes, migrations, backup."""
