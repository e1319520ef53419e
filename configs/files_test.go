package configs

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// everyConfiguration is every file of this folder that Load could be given, the
// bad ones of testdata included, by name.
func everyConfiguration(t testing.TB) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if path == "monitoring" { // of other programs
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".toml", ".json"}, filepath.Ext(path)) {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
