package agentconfig

// provider is a model provider that OpenClaw knows by the environment name of its key.
type provider struct {
	keys  []string // any of them
	model string   // id in OpenClaw's catalogue
}

// providers lists the default models in order of preference. Each is in the catalogue of OpenClaw 2026.9.6 (the last
// three in that of their plug-ins), understands pictures, because the agent looks at a screen, and costs about as much as
// its provider's medium models.
var providers = []provider{
	{[]string{"ANTHROPIC_API_KEY"}, "anthropic/claude-sonnet-5"},
	{[]string{"OPENAI_API_KEY"}, "openai/gpt-6-sol"},
	{[]string{"GEMINI_API_KEY", "GOOGLE_API_KEY"}, "google/gemini-3.7-flash"},
	{[]string{"XAI_API_KEY"}, "xai/grok-4.7"},
	{[]string{"OPENROUTER_API_KEY"}, "openrouter/auto"},
	{[]string{"TOGETHER_API_KEY"}, "together/moonshotai/Kimi-K2.6"},
	{[]string{"MISTRAL_API_KEY"}, "mistral/mistral-large-latest"},
	{[]string{"DEEPSEEK_API_KEY"}, "deepseek/deepseek-flash"},
	{[]string{"GROQ_API_KEY"}, "groq/qwen/qwen3.6-27b"},
}

// Model returns the default model for the keys, by environment name; "": none of them has one.
func Model(keys map[string]string) string {
	for _, p := range providers {
		for _, name := range p.keys {
			if keys[name] != "" {
				return p.model
			}
		}
	}
	return ""
}
