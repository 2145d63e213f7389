"""The least that an API can do for a submit: one FastAPI endpoint, one INSERT. What submits are held against."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from trsp_jobs import db

INSERT = text("INSERT INTO bare (body) VALUES (CAST(:body AS text)) RETURNING id")

app = FastAPI()
engine = db.make_engine(os.environ["TRSP_DATABASE_URL"], pool_size=10)


@app.get("/healthz")
def ready() -> None:
    """Answer."""


@app.post("/", status_code=202)
def insert(body: dict[str, Any]) -> dict[str, int]:
    """Insert one row and return its number."""
    with engine.begin() as connection:
        return {"id": connection.execute(INSERT, {"body": str(body)}).scalar_one()}


if __name__ == "__main__":
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, body text)"))
    uvicorn.run(app, port=int(os.environ["TRSP_PORT"]), log_config=None, access_log=False)
