package machine

// providerConfig is OpenClaw's configuration for the provider; the key is the one that the user stored.
const providerConfig = `{
  "models": {"providers": {"fake": {
    "baseUrl": "http://127.0.0.1:9099/v1", "apiKey": "${OPENAI_API_KEY}", "api": "openai-completions",
    "models": [{"id": "echo-1", "name": "Echo", "reasoning": false, "input": ["text", "image"],
      "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}, "contextWindow": 128000, "maxTokens": 4096}]
  }}},
  "agents": {"defaults": {"workspace": "/home/cloudbot/workspace", "model": {"primary": "fake/echo-1"}, "heartbeat": {"every": "0m"}}},
  "browser": {"ssrfPolicy": {"allowedHostnames": ["localhost"]}}
}
`
