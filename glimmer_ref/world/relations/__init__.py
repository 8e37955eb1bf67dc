"""What can be true in a world, relation by relation."""
