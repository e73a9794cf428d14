package commands

import (
	"fmt"
	"strings"
)

// namedFailures is how many failures an error of a pass over all accounts names.
const namedFailures = 10

// failures are what failed in a pass over all accounts, which may be every account: only the first ones are kept.
type failures struct {
	named []error
	more  int
}

// joined is errors.Join for a pass over all accounts. It may change failed.
func joined(failed, err error) error {
	if err == nil {
		return failed
	}
	all, ok := failed.(*failures) //nolint:errorlint // one that is wrapped is one failure
	if !ok {
		all = &failures{}
		if failed != nil {
			all.named = append(all.named, failed)
		}
	}
	added, more := []error{err}, 0
	if several, ok := err.(*failures); ok { //nolint:errorlint // the same
		added, more = several.named, several.more
	}
	kept := min(len(added), namedFailures-len(all.named))
	all.named, all.more = append(all.named, added[:kept]...), all.more+len(added)-kept+more
	return all
}

func (f *failures) Error() string {
	texts := make([]string, len(f.named), len(f.named)+1)
	for i, err := range f.named {
		texts[i] = err.Error()
	}
	if f.more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", f.more))
	}
	return strings.Join(texts, "\n")
}

func (f *failures) Unwrap() []error { return f.named }
