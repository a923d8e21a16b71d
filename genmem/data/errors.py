"""What the data layer raises."""


class DataError(ValueError):
    """A data set that is damaged, incomplete, or another than the recipe's.

    The message names the file and, where there is one, the shard, sample and key.
    """
