package secrets

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// newMemoryVault returns a vault in which everything is real but the database.
func newMemoryVault() *Vault {
	keys, err := NewKeyring(strings.Repeat("5a", keyBytes))
	if err != nil {
		panic(err)
	}
	v, err := openVault(context.Background(), newMemoryKeys(), keys, nil)
	if err != nil {
		panic(err)
	}
	return v
}

// memoryKeys is a keyStore in memory.
type memoryKeys struct {
	mu          sync.Mutex
	data, named map[string]row
}

func newMemoryKeys() *memoryKeys {
	return &memoryKeys{data: map[string]row{}, named: map[string]row{}}
}

func (m *memoryKeys) add(_ context.Context, r row) error      { return m.keep(m.data, r) }
func (m *memoryKeys) addNamed(_ context.Context, r row) error { return m.keep(m.named, r) }

func (m *memoryKeys) get(_ context.Context, account string) (*row, error) {
	return m.find(m.data, account)
}

func (m *memoryKeys) getAll(ctx context.Context, accounts []string) (list []row, err error) {
	for _, account := range accounts {
		if r, _ := m.get(ctx, account); r != nil {
			list = append(list, *r)
		}
	}
	return list, nil
}

func (m *memoryKeys) getNamed(_ context.Context, name string) (*row, error) {
	return m.find(m.named, name)
}

func (m *memoryKeys) drop(_ context.Context, account string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, account)
	return nil
}

func (m *memoryKeys) keep(in map[string]row, r row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := in[r.name]; !ok {
		in[r.name] = r
	}
	return nil
}

func (m *memoryKeys) find(in map[string]row, name string) (*row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := in[name]; ok {
		return &r, nil
	}
	return nil, nil
}

func (m *memoryKeys) rewrap(_ context.Context, by []string, change func(bool, row) (row, error)) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, in := range []map[string]row{m.data, m.named} {
		for name, r := range in {
			if !slices.Contains(by, r.by) {
				continue
			}
			r, err := change(len(r.id) == 0, r)
			if err != nil {
				return n, err
			}
			in[name] = r
			n++
		}
	}
	return n, nil
}

func (m *memoryKeys) wrappedByOthers(_ context.Context, by []string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, in := range []map[string]row{m.data, m.named} {
		for _, r := range in {
			if !slices.Contains(by, r.by) {
				n++
			}
		}
	}
	return n, nil
}
