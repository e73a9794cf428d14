package embedded

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	controlUser = "control"
	readerUser  = "reader"
)

// readerCalls are the calls of the JetStream API with which a reader follows the stream through
// consumers of its own. The first of them answer a request with more than one message.
var readerCalls = [...]struct{ subject, response string }{
	{"$JS.API.CONSUMER.MSG.NEXT.EVENTS.*", "stream"},
	{"$JS.API.DIRECT.GET.EVENTS", "stream"},
	{"$JS.API.DIRECT.GET.EVENTS.>", "stream"},
	{"$JS.API.INFO", "single"}, // without it the server answers the others itself: no JetStream here
	{"$JS.API.STREAM.INFO.EVENTS", "single"},
	{"$JS.API.STREAM.MSG.GET.EVENTS", "single"},
	{"$JS.API.CONSUMER.CREATE.EVENTS", "single"},
	{"$JS.API.CONSUMER.CREATE.EVENTS.>", "single"},
	{"$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.*", "single"},
	{"$JS.API.CONSUMER.NAMES.EVENTS", "single"},
	{"$JS.API.CONSUMER.LIST.EVENTS", "single"},
	{"$JS.API.CONSUMER.INFO.EVENTS.*", "single"},
	{"$JS.API.CONSUMER.DELETE.EVENTS.*", "single"},
	{"$JS.ACK.EVENTS.>", "single"},
	{"$JS.FC.EVENTS.>", "single"},
}

// accounts are the options of a server with two users. The reader lives in an account of its own
// that imports just the calls above: permissions alone would not do, because a server sends the
// answer to a request to whatever reply subject the request names, "$KV.…" included.
func accounts(control, reader string) (*server.Options, error) {
	var exports, imports, publish strings.Builder
	for _, c := range readerCalls {
		fmt.Fprintf(&exports, "{service: %q, response_type: %s}\n", c.subject, c.response)
		fmt.Fprintf(&imports, "{service: {account: CONTROL, subject: %q}}\n", c.subject)
		fmt.Fprintf(&publish, "%q\n", c.subject)
	}
	conf := fmt.Sprintf(`
accounts {
  CONTROL {
    jetstream: enabled
    users: [{user: %[1]s, password: %[2]q, allowed_connection_types: [IN_PROCESS]}]
    exports: [
      {stream: "cloudbot.events.>"}
      %[3]s
    ]
  }
  READERS {
    users: [{user: %[4]s, password: %[5]q, permissions: {
      subscribe: ["cloudbot.events.>", "_INBOX.>"]
      publish: [%[6]s]
    }}]
    imports: [
      {stream: {account: CONTROL, subject: "cloudbot.events.>"}}
      %[7]s
    ]
  }
}`, controlUser, control, exports.String(), readerUser, reader, publish.String(), imports.String())
	opts := &server.Options{}
	if err := opts.ProcessConfigString(conf); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return opts, nil
}
