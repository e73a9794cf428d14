package embedded

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	controlUser = "control"
	copierUser  = "copier"
	readerUser  = "reader"
)

// readerCalls lists the calls of the JetStream API that a reader needs to follow the copy of the stream with its own
// consumers. The first of them answer a request with more than one message.
var readerCalls = [...]struct{ subject, response string }{
	{"$JS.API.CONSUMER.MSG.NEXT.EVENTS.*", "stream"},
	{"$JS.API.DIRECT.GET.EVENTS", "stream"},
	{"$JS.API.DIRECT.GET.EVENTS.>", "stream"},
	{"$JS.API.INFO", "single"}, // without it the server answers the others with "no JetStream"
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

// inProcess restricts users to connections of this process; a separate NATS has the same users without it.
const inProcess = `, allowed_connection_types: [IN_PROCESS]`

// accounts returns the options of a server with three accounts. CONTROL has the stream and the buckets, COPY a mirror
// of the stream, and READERS the calls for consumers on the mirror. So no call of a reader reaches a consumer or a
// subject of CONTROL. Permissions alone are not enough: a server sends the answer to a request to the reply subject in
// the request, and a consumer's messages to the subject that its creator names, even "$KV.…". docs/production.md
// shows the same accounts for a separate NATS.
func accounts(control, copier, reader string) (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accountsConf(control, copier, reader, inProcess)); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return opts, nil
}

// accountsConf returns the accounts as a part of nats-server's configuration.
func accountsConf(control, copier, reader, internal string) string {
	var exports, imports, publish strings.Builder
	for _, c := range readerCalls {
		fmt.Fprintf(&exports, "\n      {service: %q, response_type: %s, accounts: [READERS]}", c.subject, c.response)
		fmt.Fprintf(&imports, "\n      {service: {account: COPY, subject: %q}}", c.subject)
		fmt.Fprintf(&publish, "\n        %q", c.subject)
	}
	return fmt.Sprintf(`accounts {
  CONTROL {
    jetstream: enabled
    users: [{user: %[1]s, password: %[2]q%[10]s}]
    exports: [
      {stream: "cloudbot.events.>", accounts: [READERS]}
      {service: "$JS.API.CONSUMER.CREATE.EVENTS", accounts: [COPY]}
      {service: "$JS.FC.EVENTS.>", accounts: [COPY]}
      {stream: "cloudbot.copy.>", accounts: [COPY]}
    ]
  }
  COPY {
    jetstream: enabled
    users: [{user: %[3]s, password: %[4]q%[10]s}]
    imports: [
      {service: {account: CONTROL, subject: "$JS.API.CONSUMER.CREATE.EVENTS"}, to: "CONTROL.API.CONSUMER.CREATE.EVENTS"}
      {service: {account: CONTROL, subject: "$JS.FC.EVENTS.>"}}
      {stream: {account: CONTROL, subject: "cloudbot.copy.>"}}
    ]
    exports: [
      {stream: "_INBOX.>", accounts: [READERS]} # what consumers push%[5]s
    ]
  }
  READERS {
    users: [{user: %[6]s, password: %[7]q, permissions: {
      subscribe: ["cloudbot.events.>", "_INBOX.>"]
      publish: [%[8]s
      ]
    }}]
    imports: [
      {stream: {account: CONTROL, subject: "cloudbot.events.>"}}
      {stream: {account: COPY, subject: "_INBOX.>"}}%[9]s
    ]
  }
}
`, controlUser, control, copierUser, copier, exports.String(), readerUser, reader, publish.String(), imports.String(), internal)
}
