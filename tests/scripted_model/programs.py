"""How each agent program is pointed at the scripted model, without a key of any worth."""

from __future__ import annotations

import json


def codex_config(url: str) -> str:
    """Return a `config.toml` for CODEX_HOME that selects the model at `url`, without key or retries."""
    return f"""\
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{url}"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false

[features]
plugins = false
"""


def claude_environment(root: str, config: str) -> dict[str, str]:
    """Return the environment in which Claude Code asks the model at `root`; its settings are in `config`."""
    return {"ANTHROPIC_BASE_URL": root, "ANTHROPIC_API_KEY": "scripted", "CLAUDE_CONFIG_DIR": config}


def opencode_config(url: str) -> str:
    """Return an `opencode.json` with nothing but the model at `url`, which it calls 'scripted/model'."""
    cost, limit = {"input": 1, "output": 10}, {"context": 100_000, "output": 10_000}
    model = {"name": "model", "limit": limit, "cost": cost}
    options = {"baseURL": url, "apiKey": "scripted"}
    provider = {"npm": "@ai-sdk/openai", "name": "Scripted", "options": options, "models": {"model": model}}
    return json.dumps(
        {
            "provider": {"scripted": provider},
            "enabled_providers": ["scripted"],
            "agent": {"title": {"disable": True}},  # a request that no script waits for
            "share": "disabled",
            "autoupdate": False,
            "snapshot": False,
            "lsp": False,
            "formatter": False,
        }
    )


OPENCODE_OFFLINE = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}
"""What keeps opencode from the network, beside `OPENCODE_LOCK`."""

OPENCODE_LOCK = json.dumps({"packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}}})
"""A lock file that, with a `node_modules` beside its configuration, tells it that nothing is to be installed."""
