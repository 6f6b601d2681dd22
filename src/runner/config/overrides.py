"""Overrides as text: values of a recipe or a file in the grammar of the command line."""


def text(value) -> str:
    """A value of a recipe in the grammar of the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{k}:{text(v)}' for k, v in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not value.replace("_", "").replace("-", "").replace(".", "").replace("/", "").isalnum():
        return "'" + value.replace("'", "\\'") + "'"
    return str(value)


def settings(values: dict) -> tuple[str, ...]:
    """`{"noise.rate": 0.2}` -> `("noise.rate=0.2",)`."""
    return tuple(f"{key}={text(value)}" for key, value in values.items())
