"""Results as they were saved."""
