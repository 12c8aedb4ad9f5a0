// What Regreen does with parameters, and with what chat clients ask on their own behalf, by the official OpenAI package.
import { createRequire } from "node:module";

const [base, packages, given] = process.argv.slice(2);
const OpenAI = createRequire(packages + "/")("openai");
const client = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });
const prompts = JSON.parse(given);
const ask = (more) =>
  client.chat.completions.create({
    model: "troubleshooter",
    messages: [{ role: "user", content: "Which tag?" }],
    ...more,
  });
const refused = (more) =>
  ask(more).then(
    () => null,
    (error) => (error.status === 400 ? [error.param, error.code] : error.status),
  );
const missing = await client.models.retrieve("nobody").catch((error) => [error.code, error.param]);
const cut = await ask({
  max_completion_tokens: 5,
  temperature: 0.5,
  n: 1,
  tools: [],
  response_format: { type: "text" },
});
const tool = { type: "function", function: { name: "f", parameters: { type: "object" } } };
const schema = { type: "json_schema", json_schema: { name: "s", schema: { type: "object" } } };
const title = await ask({ messages: [{ role: "user", content: prompts.title }], max_tokens: 1000 });
const stream = await ask({
  messages: [{ role: "user", content: prompts.tags }],
  stream: true,
  stream_options: { include_usage: true },
});
let tags = "";
let last;
for await (const chunk of stream) {
  tags += chunk.choices[0]?.delta?.content ?? "";
  last = chunk;
}
console.log(
  JSON.stringify({
    model: (await client.models.retrieve("read-only explainer")).id,
    missing,
    cut: [cut.choices[0].message.content, cut.choices[0].finish_reason],
    refused: [
      await refused({ n: 2 }),
      await refused({ tools: [tool] }),
      await refused({ tools: [tool], tool_choice: "auto" }),
      await refused({ response_format: schema }),
      await refused({ stop: ["."] }),
      await refused({ seed: 7 }),
      await refused({ max_tokens: 0 }),
      await refused({ top_k: 5 }),
    ],
    title: title.choices[0].message.content,
    tags,
    tokens: last.usage.total_tokens,
  }),
);
