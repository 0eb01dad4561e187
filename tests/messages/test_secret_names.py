"""Names of secrets are recognised by their nouns, with any prefix and any spelling."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner.config.schema import Config, Tracking, keys_of
from runner.messages.redaction import hides
from tests.conftest import ROOT

SECRET = """
    password tags.api_token DB_PASSWORD a.secret.b apikey tokens apiKey dbPassword AWS_SECRET_ACCESS_KEY auth
    Authorization credentials clientSecret access_keys mypassword2 dbpass pgpass secretkey openai_key hf_key pat webhook
    dsn sessionid github_pat gh-pat GITHUB_PAT SENTRY_DSN session_id sessionId JSESSIONID PHPSESSID session-id
    slack_webhook webhook_url webhookUrl db_pass userpass ldap_pwd rootpw smtpPass licenseKey stripeKey hfkey openaikey
    ssl_cert tls.cert client_certificate cookies auth_cookie creds otp passcode connectionString aws_access_key_id pass
    passkey x-auth basicauth oauth2 wandb_api_key MYSQL_PWD ssh_keys privatekey masterkey keypass pin deploy_keys jwt
    apikey_prod OPENAI_APIKEY_V2 openai_key_new smtp_pass_old passwordhash accesskeyProd wifi_psk csrf
    pat_github key_openai pass_db pin_code KEY_AWS_PROD pass-postgres
    anthropic_key refresh_tokens AZURE_STORAGE_CONNECTION_STRING
"""
ORDINARY = """
    lr objective.passes tokenizer compass secretary key author monkey initial_weight patience key_help pattern keys
    path patch passes bypass passenger turkey hockey keyboard authority compat expat concert max_tokens num_tokens
    token_count tokens_per_second sort_key primary_key public_key sort_keys cache_key hotkey forward_pass
    pin_memory spin mapping opinion missing_keys certainty uncertainty passive patient cat session sessions inside
    pass_rate topk key_1 sort_key_old first_pass_new key_value strings value old
    key_size key_name pass_count pass_through pattern_github pin_layout
"""
NOUNS = ("password", "pass", "pwd", "secret", "token", "credential", "key", "dsn", "pat", "cookie", "cert", "webhook")
WHOSE = ("db", "pg", "openai", "hf", "github", "sentry", "slack", "mysql", "wandb", "my", "prod", "aws", "svc", "root")


@pytest.mark.parametrize("key", SECRET.split())
def test_names_of_secrets_are_recognised(key: str) -> None:
    assert hides(key)


@pytest.mark.parametrize("key", ORDINARY.split())
def test_ordinary_names_are_not_secret(key: str) -> None:
    assert not hides(key)


@given(whose=st.sampled_from(WHOSE), noun=st.sampled_from(NOUNS), more=st.sampled_from(WHOSE), number=st.integers(0, 9))
def test_a_noun_with_any_prefix_and_spelling_is_secret(whose: str, noun: str, more: str, number: int) -> None:
    spellings = [f"{whose}_{noun}", f"{whose}-{noun}", f"{whose}{noun.title()}", f"{whose}_{noun}".upper()]
    spellings += [f"{whose}{noun}", f"{more}_{whose}_{noun}", f"tags.{whose}_{noun}", f"{whose}_{noun}_{number}"]
    assert [name for name in spellings if not hides(name)] == []


def leaves(tree: Any) -> list[str]:
    if not isinstance(tree, dict):
        return []
    return [str(key) for key in tree] + [name for inner in tree.values() for name in leaves(inner)]


def test_no_key_of_the_schema_is_hidden() -> None:
    files = [file for file in Path(ROOT / "conf").rglob("*.yaml") if "help" not in file.parts]
    names = {name for file in files for name in leaves(OmegaConf.to_container(OmegaConf.load(file), resolve=False))}
    names |= {*keys_of(Config), *keys_of(Tracking), "key_help"}
    assert [name for name in names if hides(name)] == []
