// Genkit for Go (go get github.com/firebase/genkit/go go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp),
// with a model of its own. The argument is one of run, fails, deadline, cancelled.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/firebase/genkit/go/ai"
	"github.com/firebase/genkit/go/genkit"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace"
)

type question struct {
	City string `json:"city"`
}

var failures = map[string]error{
	"fails":     errors.New("quota exceeded"),
	"deadline":  fmt.Errorf("Post \"http://127.0.0.1/v1/chat/completions\": %w", context.DeadlineExceeded),
	"cancelled": context.Canceled,
}

func main() {
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx) // to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
	if err != nil {
		log.Fatal(err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	defer provider.Shutdown(ctx)
	otel.SetTracerProvider(provider)

	g := genkit.Init(ctx)
	calls := 0
	supports := &ai.ModelSupports{Tools: true, Multiturn: true}
	model := genkit.DefineModel(g, "fake/gpt-4o-mini", &ai.ModelOptions{Supports: supports},
		func(_ context.Context, request *ai.ModelRequest, _ ai.ModelStreamCallback) (*ai.ModelResponse, error) {
			if failure := failures[os.Args[1]]; failure != nil {
				return nil, failure
			}
			calls++
			message := ai.NewModelTextMessage("It is sunny.")
			if calls == 1 {
				call := &ai.ToolRequest{Name: "weather", Input: map[string]any{"city": "Bern"}}
				message = ai.NewModelMessage(ai.NewToolRequestPart(call))
			}
			usage := &ai.GenerationUsage{
				InputTokens: 100, OutputTokens: 7, TotalTokens: 107, CachedContentTokens: 30, ThoughtsTokens: 2,
			}
			return &ai.ModelResponse{Request: request, FinishReason: "stop", Usage: usage, Message: message}, nil
		})
	weather := genkit.DefineTool(g, "weather", "the weather",
		func(*ai.ToolContext, question) (string, error) { return "sunny", nil })
	answer := genkit.DefineFlow(g, "answer", func(ctx context.Context, prompt string) (string, error) {
		response, err := genkit.Generate(ctx, g, ai.WithModel(model), ai.WithPrompt(prompt), ai.WithTools(weather))
		if err != nil {
			return "", err
		}
		return response.Text(), nil
	})
	fmt.Println(answer.Run(ctx, "Weather in Bern?"))
}
