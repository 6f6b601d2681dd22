"""Models of token ids."""

from runner import UserError


def known(vocabulary: int, info) -> int:
    """The ids that a model knows, from 0. Raises UserError where the data has more, which would be an index out of range at some step."""
    if (info.vocabulary or 0) > vocabulary:
        raise UserError(f"the data has {info.vocabulary} token ids, the model knows {vocabulary}: set model.vocabulary={info.vocabulary}")
    return vocabulary
