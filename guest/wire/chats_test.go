package wire_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// A copy of many short elements is refused before it takes many times its size in memory. No parallel tests: they would
// count, too.
func TestManyElementsTakeNoMemory(t *testing.T) {
	const sessions = `{"sessions":[`
	const messages = sessions + `{"key":"k","messages":[`
	const parts = messages + `{"content":[`
	for begin, end := range map[string]string{sessions: "]}", messages: "]}]}", parts: "]}]}]}"} {
		for _, element := range []string{"0,", "{},", "null,"} {
			text := []byte(begin + strings.Repeat(element, (wire.MaxChats-100)/len(element)) + strings.TrimSuffix(element, ",") + end)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := wire.ParseChats(text)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > wire.MaxChats {
				t.Errorf("%s%s…: got %v and %d MiB, want an error and less than 1 MiB", begin, element, err, used>>20)
			}
		}
	}
}

// What a list in a tool's arguments, or a text, contains is no element.
func TestOnlyElementsCount(t *testing.T) {
	t.Parallel()
	args := `[` + strings.Repeat("0,", wire.MaxSavedArgs/2-2) + `0]`
	text := strings.Repeat(`[,\"`, 1000)
	part := `{"type":"text","text":"` + text + `"},{"type":"toolCall","arguments":` + args + `}`
	message := `{"role":"assistant","content":[` + part + `]}`
	copied := `{"sessions":[{"key":"k","messages":[` + strings.TrimSuffix(strings.Repeat(message+",", 150), ",") + `]}]}`
	if c, err := wire.ParseChats([]byte(copied)); err != nil || len(c.Sessions[0].Messages) != 150 {
		t.Errorf("a copy of %d bytes: got %v, want 150 messages", len(copied), err)
	}
}
