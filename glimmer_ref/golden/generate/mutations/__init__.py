"""The known mistakes, in the order in which the golden cases store them."""

from . import decoder, layers, pairs, ranking

TABLE = (*layers.TABLE, *pairs.TABLE, *ranking.TABLE, *decoder.TABLE)
