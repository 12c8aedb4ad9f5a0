// Talks to Regreen with the official OpenAI package; prints what it heard as JSON.
import { createRequire } from "node:module";

const [base, packages] = process.argv.slice(2);
const OpenAI = createRequire(packages + "/")("openai");
const client = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const messages = [{ role: "user", content: "Which tag?" }];
const first = await client.chat.completions.create({ model: "troubleshooter", messages });
messages.push(first.choices[0].message, { role: "user", content: "And then?" });
const stream = await client.chat.completions.create({
  model: "troubleshooter",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
let second = "";
let pieces = 0;
let last;
for await (const chunk of stream) {
  pieces += 1;
  last = chunk;
  second += chunk.choices[0]?.delta?.content ?? "";
}
const refused = await client.chat.completions.create({ model: "nobody", messages }).catch((error) => error.code);
console.log(
  JSON.stringify({
    models,
    first: first.choices[0].message.content,
    finish: first.choices[0].finish_reason,
    tokens: first.usage.total_tokens,
    second,
    streamed_tokens: last.usage.total_tokens,
    pieces,
    refused,
  }),
);
