"""Which keys name secrets, by the nouns in them, such as `db_password`, `openaiKey`, `pgpass` and `x-session-id`."""

import functools
import itertools
import re

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Nouns for credentials. A name is secret if one of its words is such a noun or ends in one.
SECRETS = (
    *("password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential", "bearer", "jwt"),
    *("cookie", "authorization", "authentication", "oauth", "sessionid", "sessid", "webhook", "dsn", "connstr"),
)
# The same, only as a separate word.
WORDS = ("auth", "cred", "pat", "pw", "sid", "psk", "cvv", "csrf", "xsrf")
# Found anywhere in a word, as in `passwordhash`.
WITHIN = ("password", "passwd", "passphrase", "credential", "webhook")
# Qualifiers after the noun: `openai_key_prod` is as secret as `openai_key`.
WHICHEVER = "prod production dev live staging old new backup value text string str v"
WHICH = frozenset(WHICHEVER.split())
# Nouns with other common meanings: secret as the last word of a name or its end, except after an ORDINARY word.
AT_THE_END = ("key", "pass", "auth", "pat", "pw", "otp", "cert", "certificate", "pem")
LAST_WORDS = ("pin",)
PAIRS = (
    *(("session", "id"), ("connection", "string"), ("conn", "string"), ("conn", "str"), ("pass", "phrase")),
    *(
        ("seed", "phrase"),
        ("recovery", "code"),
        ("pin", "code"),
        ("recovery", "phrase"),
        ("backup", "code"),
        ("web", "hook"),
    ),
    *(("api", "key"), ("access", "key"), ("account", "key"), ("private", "key"), ("signing", "key"), ("ssh", "key")),
    *(("encryption", "key"), ("master", "key"), ("session", "key")),
)
# What a key or password is for, where it follows the noun, as in `key_openai`; in the singular, as all words.
FOR = """
    anthropic aw azure bitbucket cohere datadog db docker gcp github gitlab google hf huggingface mysql npm openai pg
    postgre postgresql pypi redi root sentry slack smtp ssh stripe svc wandb
"""
SERVICES = frozenset(FOR.split())
# The words before `key` and `pass` that make an ordinary name, as in `sort_key` and `forward_pass`.
KEYS = """
    allowed any arrow bucket cache candidate child cluster clustering column composite config data dedup dict
    distribution dotted each entry event every extra feature field first foreign group hash hot idempotency index
    item join json known label last latch legend lookup low major map max merge message metric min minor missing
    musical n natural new next num object off old optional order other param parent partition primary public query
    range record required routing row same search shard short sort state sub tag target this top translation turn
    unexpected unique unknown up valid yaml
"""
PASSES = """
    all backward band boarding by each final first forward full high last low mountain multi next one per render
    second single test third train training two
"""
ORDINARY = {"key": frozenset(KEYS.split()), "pass": frozenset(PASSES.split())}
# English words with these endings.
BY_CHANCE = re.compile(
    r".*(?:monkey|donkey|turkey|hockey|whiskey|compass|compat)|(?:ho|jo|la|mi|hi|di)ckey|smokey|flunkey|malarkey|pokey|okey"
    r"|(?:tres|sur|over|under)pass|expat|spat|(?:dis)?concert"
)
# In the addresses of MLflow's UI: which saved view is shown.
NAMES = frozenset({"viewStateShareKey"})
COUNTS = "batch context count length limit max min n new num number of per rate size total vocab"
COUNTED = frozenset(COUNTS.split())


@functools.cache
def hides(key: str) -> bool:
    """Return whether a key, or a part of a dotted key, names a secret."""
    return key not in NAMES and any(_is_secret(part) for part in re.split(r"[./]", key))


def _is_secret(name: str) -> bool:
    words = [_singular(word.lower()) for word in WORD.findall(name)]
    if not words:
        return False
    if any(pair in PAIRS for pair in itertools.pairwise(words)) or any(word in WORDS for word in words):
        return True
    while len(words) > 1 and words[-1] in WHICH:
        words.pop()
    nouns = [noun for word in words for noun in SECRETS if word.endswith(noun) or (noun in WITHIN and noun in word)]
    if nouns:
        return nouns != ["token"] or not COUNTED.intersection(words)  # as in max_tokens
    is_for_service = words[0] in ("key", "pass") and not SERVICES.isdisjoint(words[1:])
    return is_for_service or words[-1] in LAST_WORDS or _ends_secret(words)


def _ends_secret(words: list[str]) -> bool:
    *before, last = words
    noun = next((noun for noun in AT_THE_END if last.endswith(noun)), None)
    if noun is None or BY_CHANCE.fullmatch(last):
        return False
    of = last.removesuffix(noun) or (before[-1] if before else "")
    if noun == "key" and not of:
        return False
    return of not in ORDINARY.get(noun, ())


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
