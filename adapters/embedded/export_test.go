package embedded

// AccountsConf is the accounts' part of a nats-server's configuration, for docs/production.md.
func AccountsConf(control, copier, reader string) string {
	return accountsConf(control, copier, reader, "")
}
