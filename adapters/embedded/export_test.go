package embedded

// AccountsConf is the accounts as a part of nats-server's configuration, for docs/production.md.
func AccountsConf(control, copier, reader string) string {
	return accountsConf(control, copier, reader, "")
}
