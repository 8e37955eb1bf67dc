"""The known mistakes, in the order in which the golden cases store them."""

from . import decoder, layers, padding, pairs, ranking

TABLE = (*layers.TABLE, *padding.TABLE, *pairs.TABLE, *ranking.TABLE, *decoder.TABLE)
