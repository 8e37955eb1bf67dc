"""The relations of a world, with sentences that state them and questions about them."""
