// Spring AI (org.springframework.ai: spring-ai-openai, spring-ai-client-chat 1.1; io.micrometer:micrometer-tracing-bridge-otel;
// io.opentelemetry:opentelemetry-exporter-otlp). The argument is run, turns or fails.
import io.micrometer.observation.ObservationRegistry;
import io.micrometer.tracing.handler.DefaultTracingObservationHandler;
import io.micrometer.tracing.otel.bridge.OtelCurrentTraceContext;
import io.micrometer.tracing.otel.bridge.OtelTracer;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.springframework.ai.chat.client.ChatClient;
import org.springframework.ai.model.tool.DefaultToolCallingManager;
import org.springframework.ai.openai.OpenAiChatModel;
import org.springframework.ai.openai.OpenAiChatOptions;
import org.springframework.ai.openai.api.OpenAiApi;
import org.springframework.ai.tool.annotation.Tool;
import org.springframework.retry.support.RetryTemplate;

public class SpringAi {
  public static class Tools {
    @Tool(description = "the weather")
    public String weather(String city) {
      return "sunny";
    }
  }

  public static void main(String[] arguments) {
    var endpoint = System.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    var exporter = OtlpHttpSpanExporter.builder().setEndpoint(endpoint).build();
    var provider = SdkTracerProvider.builder().addSpanProcessor(BatchSpanProcessor.builder(exporter).build()).build();
    var tracer = new OtelTracer(provider.get("org.springframework.boot"), new OtelCurrentTraceContext(), event -> {});
    var registry = ObservationRegistry.create();
    registry.observationConfig().observationHandler(new DefaultTracingObservationHandler(tracer));
    var prompt = Map.of("fails", "Please fail").getOrDefault(arguments[0], "Weather in Bern?");
    try {
      if (arguments[0].equals("turns")) {
        inSpan(tracer, () -> ask(registry, prompt), () -> ask(registry, prompt));
      } else {
        ask(registry, prompt);
      }
    } catch (RuntimeException problem) {
      System.out.println(problem);
    }
    provider.shutdown().join(5, TimeUnit.SECONDS);
  }

  private static void ask(ObservationRegistry registry, String prompt) {
    System.out.println(client(registry).prompt(prompt).tools(new Tools()).call().content());
  }

  private static void inSpan(OtelTracer tracer, Runnable... steps) {
    var span = tracer.nextSpan().name("app").start();
    try (var scope = tracer.withSpan(span)) {
      for (var step : steps) step.run();
    } finally {
      span.end();
    }
  }

  private static ChatClient client(ObservationRegistry registry) {
    var api = OpenAiApi.builder().baseUrl(System.getenv("MODEL_URL")).apiKey("none").build();
    var model = OpenAiChatModel.builder().openAiApi(api).observationRegistry(registry)
        .defaultOptions(OpenAiChatOptions.builder().model("gpt-4o-mini").build())
        .toolCallingManager(DefaultToolCallingManager.builder().observationRegistry(registry).build())
        .retryTemplate(RetryTemplate.builder().maxAttempts(1).build()).build();
    return ChatClient.builder(model, registry, null, null).build();
  }
}
