// nodemailer's pool, rendering with nunjucks: node send.js JOB.json prints what it took as JSON.
"use strict";

const fs = require("node:fs");
const nodemailer = require("nodemailer");
const nunjucks = require("nunjucks");

const job = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const plain = new nunjucks.Environment(null, { autoescape: false });
const escaping = new nunjucks.Environment(null, { autoescape: true });
const subject = nunjucks.compile(job.templates.subject, plain);
const text = nunjucks.compile(job.templates.text, plain);
const html = nunjucks.compile(job.templates.html, escaping);
const people = fs.readFileSync(job.people, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));

function pool(port) {
  return nodemailer.createTransport({
    pool: true,
    host: "127.0.0.1",
    port,
    secure: false,
    ignoreTLS: true,
    maxConnections: job.connections, // 100 messages each, as shipped
  });
}

function send(transporter, person) {
  return transporter.sendMail({
    from: { name: job.sender_name, address: job.sender_address },
    to: { name: person.name, address: person.email },
    subject: subject.render(person),
    text: text.render(person),
    html: html.render(person),
    list: { id: { url: job.list_id }, unsubscribe: { url: person.unsubscribe_url } },
    headers: { "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" },
  });
}

// The pool is never left waiting: twice as many messages are on their way as there are connections.
async function sendAll(port, wanted) {
  const transporter = pool(port);
  let next = 0;
  const worker = async () => {
    while (next < wanted.length) {
      await send(transporter, wanted[next++]);
    }
  };
  await Promise.all(Array.from({ length: 2 * job.connections }, worker));
  transporter.close();
}

async function main() {
  await sendAll(job.warm_up_port, people.slice(0, job.warm_up)); // so that the JIT has compiled what is hot
  const cpu = process.cpuUsage();
  const started = process.hrtime.bigint();
  await sendAll(job.port, people.slice(job.warm_up));
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const used = process.cpuUsage(cpu);
  console.log(JSON.stringify({ seconds, cpu_s: (used.user + used.system) / 1e6 }));
}

main();
