package harness

import (
	"context"
	"errors"
	"flag"
	"path/filepath"
	"strings"
	"testing"
)

type testOptions struct {
	rate  int
	wrong error
}

func (o *testOptions) Flags(f *flag.FlagSet)               { f.IntVar(&o.rate, "rate", 7, "messages a `second`") }
func (o *testOptions) Check() error                        { return o.wrong }
func (o *testOptions) Build(context.Context, string) error { return nil }
func (o *testOptions) Run(context.Context, string) error   { return nil }

func TestFlagsAreReadAndTheUsageHasTheChoices(t *testing.T) {
	p := &Program{Name: "try", About: "Tries.", Heading: "Scenarios", Choices: []Choice{{"one", "the first"}}}
	var usage strings.Builder
	o := &testOptions{}
	if err := p.Parse(o, []string{"--rate", "9", "--topicast", "/bin/true"}, &usage); err != nil || o.rate != 9 || p.topicast != "/bin/true" {
		t.Errorf("%+v, %q, %v", o, p.topicast, err)
	}
	if err := p.Parse(o, []string{"one"}, &usage); err == nil || err.Error() != `unexpected argument "one"` {
		t.Errorf("an argument: %v", err)
	}
	if err := p.Parse(&testOptions{wrong: errors.New("no")}, nil, &usage); err == nil || err.Error() != "no" {
		t.Errorf("what Check refuses: %v", err)
	}
	if err := p.Parse(o, []string{"--help"}, &usage); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, want := range []string{"Tries.\n", "try [flags]", "-rate second", "-topicast program", "Scenarios:\n  one ", "the first"} {
		if !strings.Contains(usage.String(), want) {
			t.Errorf("the usage lacks %q:\n%s", want, usage.String())
		}
	}
}

func TestAProgramThatIsGivenIsNotBuilt(t *testing.T) {
	dir := t.TempDir()
	p := &Program{Name: "try", topicast: "true"}
	if err := p.BuildTopicast(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if to, err := filepath.EvalSymlinks(Topicast(dir)); err != nil || !filepath.IsAbs(to) {
		t.Errorf("%s, %v", to, err)
	}
	p.topicast = "no-such-program"
	if err := p.BuildTopicast(t.Context(), t.TempDir()); err == nil {
		t.Error("a program that is not there was taken")
	}
}
