"""What HTTP needs between Flask and the resources."""
