// OpenAI's and Anthropic's Node clients and the Vercel AI SDK, unchanged, through Penstock.
// Run by tests/clients/run, which sets PENSTOCK_URL and PENSTOCK_ENGINES.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import {setTimeout as wait} from 'node:timers/promises';

import Anthropic from '@anthropic-ai/sdk';
import {createOpenAI} from '@ai-sdk/openai';
import {createOpenAICompatible} from '@ai-sdk/openai-compatible';
import {APICallError, generateText, stepCountIs, streamText, tool} from 'ai';
import OpenAI from 'openai';
import {z} from 'zod';

const url = process.env.PENSTOCK_URL;
const engines = process.env.PENSTOCK_ENGINES.split(',');
const messages = [{role: 'user', content: 'Say hello.'}];
const faulty = (fault) => ({headers: {'x-emulator-fault': fault}});
const weather = {type: 'function', function: {name: 'get_weather', description: 'Weather of a city.', parameters: {
  type: 'object', properties: {city: {type: 'string'}}, required: ['city']}}};

async function running() {
  let total = 0;
  for (const engine of engines) {
    const text = await (await fetch(engine + '/metrics')).text();
    for (const line of text.split('\n')) {
      if (line.startsWith('vllm:num_requests_running')) total += Number(line.slice(line.lastIndexOf(' ') + 1));
    }
  }
  return total;
}

async function untilRunning(count) {
  const deadline = Date.now() + 20000;
  while (await running() !== count) {
    assert.ok(Date.now() < deadline, `the engines do not come to ${count} running requests`);
    await wait(20);
  }
}

const client = new OpenAI({baseURL: url + '/v1', apiKey: 'any', maxRetries: 0});
const endless = {model: 'tiny', messages, stream: true, max_tokens: 4000, min_tokens: 4000, ignore_eos: true};

test('openai: a stream equals the whole answer', async () => {
  const whole = await client.chat.completions.create({model: 'tiny', messages, max_tokens: 12});
  let text = '', finish = null;
  for await (const chunk of await client.chat.completions.create({model: 'tiny', messages, max_tokens: 12, stream: true})) {
    assert.ok(chunk.choices.length > 0, 'usage that was not asked for');
    text += chunk.choices[0].delta.content ?? '';
    finish = chunk.choices[0].finish_reason ?? finish;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finish, 'length');
});

test('openai: usage when asked for', async () => {
  let usage = null;
  for await (const chunk of await client.chat.completions.create(
    {model: 'tiny', messages, max_tokens: 5, stream: true, stream_options: {include_usage: true}})) usage = chunk.usage ?? usage;
  assert.equal(usage.completion_tokens, 5);
});

test('openai: tools', async () => {
  const request = {model: 'tiny', messages, tools: [weather], tool_choice: 'required'};
  const whole = await client.chat.completions.create(request);
  const [call] = whole.choices[0].message.tool_calls;
  assert.equal(call.function.name, 'get_weather');
  const runner = client.chat.completions.stream(request);
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
});

test('openai: cancel mid-stream', async () => {
  await untilRunning(0);
  const stream = await client.chat.completions.create(endless, faulty('slow=5'));
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) break;
  }
  stream.controller.abort();
  await untilRunning(0);
  const controller = new AbortController();
  const second = await client.chat.completions.create(endless, {...faulty('slow=5'), signal: controller.signal});
  await untilRunning(1);
  controller.abort();
  let got = null;
  try {
    for await (const chunk of second) got = chunk;
  } catch (error) {
    assert.ok(error instanceof OpenAI.APIUserAbortError || error.name === 'AbortError', String(error));
  }
  await untilRunning(0);
});

test('openai: errors are the SDK\'s own', async () => {
  await assert.rejects(client.chat.completions.create({model: 'tiny', messages, kv_transfer_params: {}}), (e) =>
    e instanceof OpenAI.BadRequestError && e.param === 'kv_transfer_params' && e.code === 'field_not_allowed' && Boolean(e.requestID));
  await assert.rejects(client.chat.completions.create({model: 'none', messages}), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({model: 'tiny', messages}, faulty('status=429,retry-after=3')), OpenAI.RateLimitError);
  await assert.rejects(client.chat.completions.create({model: 'tiny', messages}, faulty('reset')), OpenAI.InternalServerError);
  for (const fault of ['die-after=3', 'no-end-after=3', 'error-event-after=3']) {
    await assert.rejects(async () => {
      for await (const chunk of await client.chat.completions.create(
        {model: 'tiny', messages, max_tokens: 50, stream: true}, faulty(fault))) assert.ok(chunk);
    }, OpenAI.APIError, fault);
  }
});

test('openai: responses', async () => {
  const whole = await client.responses.create({model: 'tiny', input: 'hello', max_output_tokens: 8});
  let text = '', last = '';
  for await (const event of await client.responses.create({model: 'tiny', input: 'hello', max_output_tokens: 8, stream: true})) {
    if (event.type === 'response.output_text.delta') text += event.delta;
    last = event.type;
  }
  assert.equal(text, whole.output_text);
  assert.match(last, /^response\.(completed|incomplete)$/);
});

test('anthropic: stream and errors', async () => {
  const claude = new Anthropic({baseURL: url, apiKey: 'any', maxRetries: 0});
  const request = {model: 'tiny', max_tokens: 9, messages};
  const whole = await claude.messages.create(request);
  const final = await claude.messages.stream(request).finalMessage();
  assert.equal(final.content[0].text, whole.content[0].text);
  await assert.rejects(claude.messages.create({...request, kv_transfer_params: {}}), Anthropic.BadRequestError);
  await assert.rejects(claude.messages.stream({...request, max_tokens: 50}, faulty('die-after=3')).finalMessage(), Anthropic.APIError);
});

const compatible = createOpenAICompatible({name: 'penstock', baseURL: url + '/v1', apiKey: 'any', includeUsage: true});
const prompt = {prompt: 'Say hello.', maxRetries: 0};

test('ai sdk: stream and usage', async () => {
  const whole = await generateText({model: compatible('tiny'), ...prompt, maxOutputTokens: 12});
  const result = streamText({model: compatible('tiny'), ...prompt, maxOutputTokens: 12});
  let text = '';
  for await (const piece of result.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.equal((await result.usage).outputTokens, 12);
});

test('ai sdk: the responses provider', async () => {
  const provider = createOpenAI({baseURL: url + '/v1', apiKey: 'any'});
  const whole = await generateText({model: provider.responses('tiny'), ...prompt, maxOutputTokens: 12});
  const result = streamText({model: provider.responses('tiny'), ...prompt, maxOutputTokens: 12});
  let text = '';
  for await (const piece of result.textStream) text += piece;
  assert.equal(text, whole.text);
});

test('ai sdk: tools', async () => {
  let called = 0;
  const tools = {get_weather: tool({description: 'Weather.', inputSchema: z.object({}).loose(), execute: async () => { ++called; return 'sunny'; }})};
  const result = await generateText({model: compatible('tiny'), ...prompt, tools, stopWhen: stepCountIs(2)});
  assert.ok(called >= 1);
  assert.equal(result.steps.length, 2);
});

test('ai sdk: cancel mid-stream', async () => {
  await untilRunning(0);
  const controller = new AbortController();
  const result = streamText({model: compatible('tiny'), ...prompt, headers: {'x-emulator-fault': 'slow=50'}, abortSignal: controller.signal,
                             maxOutputTokens: 4000, onError: () => {}, onAbort: () => {}});
  const reader = result.textStream[Symbol.asyncIterator]();
  await reader.next();
  assert.equal(await running(), 1);
  controller.abort();
  await untilRunning(0);
});

test('ai sdk: errors', async () => {
  await assert.rejects(generateText({model: compatible('none'), ...prompt}), (e) => APICallError.isInstance(e) && e.statusCode === 404);
  const errors = [];
  const result = streamText({model: compatible('tiny'), ...prompt, maxOutputTokens: 50, headers: {'x-emulator-fault': 'die-after=3'},
                             onError: ({error}) => errors.push(error)});
  for await (const piece of result.textStream) assert.ok(typeof piece === 'string');
  assert.equal(errors.length, 1);
});
