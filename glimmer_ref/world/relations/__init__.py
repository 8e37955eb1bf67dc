"""The relations of a world, with the sentences that state them or ask for them."""
