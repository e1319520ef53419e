//go:build linux

package main

import (
	"errors"
	"testing"
)

func TestHighestFindsTheLastRateThatLosesNothing(t *testing.T) {
	for _, limit := range []float64{1000, 1500, 40_000, 1.9e6} {
		b := &bench{step: 1.1, tries: 2}
		asked := map[float64]int{}
		got, err := b.highest(2e6, func(rate float64) (sample, error) {
			asked[rate]++
			s := sample{Rate: rate}
			if rate > limit {
				s.Lost = 1
			}
			return s, nil
		})
		if err != nil || got.Rate > limit || got.Rate*1.1 < limit {
			t.Errorf("limit %v: found %v, %v", limit, got.Rate, err)
		}
		for rate, times := range asked {
			if want := map[bool]int{true: 1, false: 2}[rate <= limit]; times != want {
				t.Errorf("limit %v: %v a second were asked for %d times, want %d", limit, rate, times, want)
			}
		}
		if len(asked) > 8 {
			t.Errorf("limit %v: asked for %d rates", limit, len(asked))
		}
	}
}

func TestHighestForgivesALossOnce(t *testing.T) {
	for tries, want := range map[int]bool{1: false, 2: true} {
		b := &bench{step: 1.5, tries: tries}
		seen := map[float64]bool{}
		got, _ := b.highest(2e6, func(rate float64) (sample, error) {
			s := sample{Rate: rate, Lost: 1}
			if seen[rate] {
				s.Lost = 0
			}
			seen[rate] = true
			return s, nil
		})
		if found := got.Rate > 0; found != want {
			t.Errorf("%d tries: found %v", tries, got.Rate)
		}
	}
}

func TestASearchGivesEachRateAShareOfTheTime(t *testing.T) {
	for kind, want := range map[kind]float64{flood: 2, latency: 2, paced: 2, search: 0.5, clean: 0.5} {
		b := &bench{seconds: 2}
		if got := b.share(scenario{kind: kind}).seconds; got != want || b.seconds != 2 {
			t.Errorf("kind %d: %v s, want %v", kind, got, want)
		}
	}
}

func TestHighestStaysBelowItsBound(t *testing.T) {
	b := &bench{step: 3, tries: 1}
	_, err := b.highest(50_000, func(rate float64) (sample, error) {
		if rate > 50_000 {
			t.Errorf("asked for %v", rate)
		}
		return sample{Rate: rate}, nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHighestTakesNoRateThatSpoilsAnything(t *testing.T) {
	for name, bad := range map[string]sample{
		"lost":         {Rate: 1, Lost: 1},
		"out of order": {Rate: 1, result: result{Late: 1}},
		"twice":        {Rate: 1, result: result{Duplicates: 1}},
		"wrong":        {Rate: 1, result: result{Wrong: 1}},
		"too late":     {Rate: 1, delayed: true},
	} {
		b := &bench{step: 2, tries: 1}
		if got, err := b.highest(2e6, func(float64) (sample, error) { return bad, nil }); err == nil {
			t.Errorf("%s: %v a second was taken", name, got.Rate)
		}
	}
	want := errors.New("gone")
	b := &bench{step: 2, tries: 3}
	if _, err := b.highest(2e6, func(float64) (sample, error) { return sample{}, want }); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
