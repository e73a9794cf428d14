package embedded

import "os"

// AccountsConf is the accounts as a part of nats-server's configuration, for docs/production.md.
func AccountsConf(control, copier, reader string) string {
	return accountsConf(control, copier, reader, "")
}

// LockFolder locks a data folder, and returns its file and what unlocks it.
func LockFolder(dir string) (file *os.File, unlock func() error, err error) {
	l, err := lockFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	return l.file, l.Close, nil
}
