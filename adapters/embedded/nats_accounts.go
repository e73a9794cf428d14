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

// readerCalls are the calls of the JetStream API with which a reader follows the copy of the stream through
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

// inProcess are the users that only this process has; a NATS of its own has them, too, without this.
const inProcess = `, allowed_connection_types: [IN_PROCESS]`

// accounts are the options of a server with three accounts. CONTROL has the stream and the buckets. COPY has a
// mirror of the stream, and READERS calls for consumers of that one: nothing a reader does reaches a consumer or a
// subject of CONTROL. Permissions alone would not do, because a server sends the answer to a request to the reply
// subject that it names, and a consumer's messages to the subject that its maker names, "$KV.…" included.
// docs/production.md has the same for a NATS of its own.
func accounts(control, copier, reader string) (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accountsConf(control, copier, reader, inProcess)); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return opts, nil
}

// accountsConf is their part of a nats-server's configuration.
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
