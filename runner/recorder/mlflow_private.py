"""All that the recorder uses of MLflow beyond its documented interface.

Each function and each re-exported name has one use, says which public way is missing, and has a test in
`tests/recorder/test_mlflow_private.py`. Other modules import only `mlflow`, `mlflow.entities`, `mlflow.exceptions` and
`mlflow.tracking`.
"""

import os
from typing import Any

import mlflow.store.db.utils as db_utils
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository as get_artifact_repository
from mlflow.store.db.base_sql_model import Base as Base
from mlflow.store.tracking.dbmodels import models as models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as SqlAlchemyStore
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds as get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path as local_file_uri_to_path
from mlflow.utils.rest_utils import http_request as http_request
from mlflow.utils.uri import is_local_uri as is_local_uri
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH as MAX_ENTITY_KEY_LENGTH
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH as MAX_PARAM_VAL_LENGTH
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH as MAX_TAG_VAL_LENGTH
from mlflow.utils.validation import path_not_unique as path_not_unique
from mlflow.utils.validation import validate_param_and_metric_name as validate_param_and_metric_name


def store_of(client: MlflowClient) -> Any:
    """Return the store behind a client: a client has no public access to it, and takes none that is open already."""
    return client._tracking_client.store


def engine_of(client: MlflowClient) -> sa.Engine | None:
    """Return the engine of the database behind a client; None where it is a server."""
    engine: sa.Engine | None = getattr(store_of(client), "engine", None)
    return engine


def set_artifact_root(uri: str) -> None:
    """Set the root of artifacts for the stores that clients open from now on.

    `SqlAlchemyStore(uri, root)` takes a root, but `MlflowClient(uri)` opens a store of its own without one, which makes
    a folder `./mlruns`.
    """
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = uri


def make_no_folders() -> None:
    """Keep MLflow from making the parent folder of a SQLite file: it takes `%25` in the URI literally."""
    db_utils._make_parent_dirs_if_sqlite = lambda db_uri: None  # noqa: ARG005  # called with this keyword


def make_tables(uri: str) -> None:
    """Create MLflow's tables in an empty database.

    The public way also locks a file in the folder for temporary files, which other users cannot open.
    """
    engine = db_utils.create_sqlalchemy_engine(uri)
    db_utils._initialize_tables(engine)
    engine.dispose()


def is_known_revision(revision: str) -> bool:
    """Return whether this MLflow has a revision of the database schema: it has no public list of them."""
    try:
        return ScriptDirectory.from_config(db_utils._get_alembic_config(db_url="")).get_revision(revision) is not None
    except CommandError:
        return False


def can_remove_runs(client: MlflowClient) -> bool:
    """Return whether `remove_run` works on the client's store."""
    return hasattr(store_of(client), "_hard_delete_run")


def remove_run(client: MlflowClient, run_id: str) -> None:
    """Delete the rows of a run: publicly only the command `mlflow gc` does, in a process of its own."""
    store_of(client)._hard_delete_run(run_id)
