package modeltest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// reply is what the model does next: it calls a tool, or says a text.
type reply struct {
	tool, args string // with arguments in JSON; "": no call
	n          int    // of the call
	text       string
}

// events are the frames of one streamed answer of a provider's API.
func (r reply) events(path, model string) []string {
	switch {
	case strings.HasSuffix(path, "/messages"):
		kind, delta, end := `{"type":"text","text":""}`, `{"type":"text_delta","text":`+quote(r.text)+`}`, "end_turn"
		if r.tool != "" {
			kind = fmt.Sprintf(`{"type":"tool_use","id":"toolu_%d","name":%s,"input":{}}`, r.n, quote(r.tool))
			delta, end = `{"type":"input_json_delta","partial_json":`+quote(r.args)+`}`, "tool_use"
		}
		return []string{
			`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"` + model + `","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`,
			`{"type":"content_block_start","index":0,"content_block":` + kind + `}`,
			`{"type":"content_block_delta","index":0,"delta":` + delta + `}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"message_delta","delta":{"stop_reason":"` + end + `","stop_sequence":null},"usage":{"output_tokens":2}}`,
			`{"type":"message_stop"}`,
		}
	case strings.Contains(path, "GenerateContent"):
		return []string{`{"candidates":[{"content":{"role":"model","parts":[{"text":` + quote(r.text) + `}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}`}
	case strings.HasSuffix(path, "/responses"):
		item := `{"type":"message","id":"i","role":"assistant","status":"completed","content":[{"type":"output_text","text":` + quote(r.text) + `,"annotations":[]}]}`
		return []string{
			`{"type":"response.created","response":{"id":"r","status":"in_progress","output":[]}}`,
			`{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"i","role":"assistant","status":"in_progress","content":[]}}`,
			`{"type":"response.content_part.added","item_id":"i","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}`,
			`{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":` + quote(r.text) + `}`,
			`{"type":"response.output_item.done","output_index":0,"item":` + item + `}`,
			`{"type":"response.completed","response":{"id":"r","status":"completed","output":[` + item + `],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}}}`,
		}
	}
	chunk := func(delta, end, more string) string {
		return `{"id":"c","object":"chat.completion.chunk","created":1,"model":"` + model + `","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + end + `}]` + more + `}`
	}
	var events []string
	end := `"stop"`
	if r.tool != "" {
		end = `"tool_calls"`
		events = append(events, chunk(fmt.Sprintf(`{"role":"assistant","tool_calls":[{"index":0,"id":"call_%d","type":"function","function":{"name":%s,"arguments":%s}}]}`,
			r.n, quote(r.tool), quote(r.args)), "null", ""))
	} else {
		for word := range strings.SplitAfterSeq(r.text, " ") {
			events = append(events, chunk(`{"role":"assistant","content":`+quote(word)+`}`, "null", ""))
		}
	}
	return append(events, chunk("{}", end, `,"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}`), "[DONE]")
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
