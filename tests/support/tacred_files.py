"""A few sentences as the LDC's files of TACRED have them."""

import json

MADE = {
    "train": [
        ("a", "He founded Acme Works in Ohio .", (0, 0, "PERSON"), (2, 3, "ORGANIZATION"), "org:founded_by"),
        ("b", "Acme Works in Ohio said he left .", (0, 1, "ORGANIZATION"), (3, 3, "STATE_OR_PROVINCE"), "no_relation"),
        ("c", "he , 41 , left in May .", (0, 0, "PERSON"), (2, 2, "NUMBER"), "per:age"),
        ("d", "May left .", (0, 0, "PERSON"), (0, 0, "PERSON"), "no_relation"),
    ],
    "dev": [("e", "May , 41 , sang in Ohio .", (0, 0, "PERSON"), (2, 2, "NUMBER"), "per:age")],
    "test": [("f", "Ohio left He .", (2, 2, "PERSON"), (0, 0, "CITY"), "no_relation"), ("g", "in May .", (1, 1, "PERSON"), (0, 0, "DATE"), "org:founded_by")],
}
SPEECH = {"in": "IN", "In": "IN", ".": ".", ",": ",", "41": "CD", "he": "PRP", "He": "PRP", "left": "VBD", "said": "VBD", "founded": "VBD", "sang": "???"}
HEADS = {"He founded Acme Works in Ohio .": "2 0 4 2 6 2 2"}  # of the others each word hangs on the one before


def sample(name, text, subject, thing, relation):
    words, start = text.split(), {"id": name, "docid": "x", "relation": relation}
    start |= {"token": words, "subj_start": subject[0], "subj_end": subject[1], "obj_start": thing[0], "obj_end": thing[1]}
    start |= {"stanford_pos": [SPEECH.get(w, "NNP") for w in words], "stanford_ner": ["DATE" if w == "May" else "O" for w in words]}
    return start | {"subj_type": subject[2], "obj_type": thing[2], "stanford_head": HEADS.get(text, " ".join(map(str, range(len(words))))).split()}


def write(folder):
    for split, rows in MADE.items():
        (folder / f"{split}.json").write_text(json.dumps([sample(*row) for row in rows]))
    return folder
