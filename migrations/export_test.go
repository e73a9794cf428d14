package migrations

import (
	"context"
	"io/fs"
	"log/slog"
)

// Program is a program with other files.
type Program set

// Undo is a declaration that a migration may be undone.
type Undo = undo

// Ours is this program, with more files and declarations.
func Ours() Program { return Program(ours) }

// Files returns the real files.
func Files() fs.FS { return files }

func (p Program) Up(ctx context.Context, url string, log *slog.Logger) error {
	return set(p).up(ctx, url, log)
}
func (p Program) Down(ctx context.Context, url string) (int64, string, error) {
	return set(p).down(ctx, url)
}
func (p Program) Check(ctx context.Context, url string) (Database, error) {
	return set(p).check(ctx, url, 0)
}
func (p Program) Status(ctx context.Context, url string) ([]Entry, Database, error) {
	return set(p).status(ctx, url)
}
func (p Program) Hold() string { return set(p).hold() }

// NewProgram returns a program with these files, whose queries work from lowest on.
func NewProgram(files fs.FS, lowest int64, undoable map[int64]Undo) Program {
	return Program{files, undoable, lowest}
}

// Contracts returns the contract that each file declares; 0: none.
func (p Program) Contracts() (map[string]int64, error) {
	all, err := set(p).read()
	list := map[string]int64{}
	for _, m := range all {
		list[m.file] = m.oldest
	}
	return list, err
}
