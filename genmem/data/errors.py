"""What the data layer raises."""


class DataError(ValueError):
    """A data set that is damaged, incomplete, or another than the recipe's.

    The message names the file and, where there is one, the shard, sample and key.
    """


class DamagedFile(DataError):
    """A file that is missing, or not the one that the manifest describes."""


class DamagedShard(DataError):
    """A whole shard that cannot be read: missing, of another size, or another one."""

    def __init__(self, problem: str, shard: int) -> None:
        """`shard` is its place in the manifest."""
        super().__init__(problem)
        self.shard = shard


class DamagedSample(DataError):
    """One view of one sample that is not what was written."""

    def __init__(self, problem: str, number: int, view: int) -> None:
        """`number` is the sample's in manifest order."""
        super().__init__(problem)
        self.number, self.view = number, view
