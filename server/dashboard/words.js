"use strict";
// Every word of the page, in both languages; the keys are the same in each.
const WORDS = {
  en: {
    other: "中文", round: "Round", of: "of", loss: "Training loss", metric: "NDCG@20 (validation)", left: "Time left",
    up: "Received from sites", down: "Sent to sites", epsilon: "Privacy spent (ε)", seconds: "Seconds per round",
    sites: "Sites", protection: "protection", unknown: "–", ago: "ago", now: "just now", never: "never",
    none: "no figures yet", updated: "Updated", lost: "No answer from the dashboard's server", noise: "off",
    budget: "of", unit: "per user", undone: "undone", next: "Next",
    columns: ["Site", "State", "Last heard", "Last answer", "NDCG@20", "Rounds", "Left out", "Why it was left out"],
    inRound: "round",
    phases: { starting: "Starting", training: "Training", evaluating: "Evaluating", finished: "Finished",
      interrupted: "Interrupted", stopped: "Stopped", failed: "Failed" },
    states: { ready: "ready", working: "working", away: "away", quarantined: "left out", held_out: "not trained on" },
    steps: { "query.hello": "roll call", "query.prepare": "getting ready", "query.secure": "keys and sums", train: "training",
      "evaluate.measure": "measuring", "evaluate.local": "local models", "evaluate.final": "final figures" },
  },
  zh: {
    other: "English", round: "轮次", of: "/", loss: "训练损失", metric: "NDCG@20（验证）", left: "剩余时间",
    up: "从站点接收", down: "发送到站点", epsilon: "已用隐私预算（ε）", seconds: "每轮秒数",
    sites: "站点", protection: "保护方式", unknown: "–", ago: "前", now: "刚刚", never: "从未",
    none: "暂无数据", updated: "更新于", lost: "面板服务器无应答", noise: "未启用",
    budget: "共", unit: "每位用户", undone: "已撤销", next: "下一步",
    columns: ["站点", "状态", "最近应答", "上次用时", "NDCG@20", "参与轮数", "被排除", "排除原因"],
    inRound: "第",
    phases: { starting: "启动中", training: "训练中", evaluating: "评估中", finished: "已完成",
      interrupted: "已中断", stopped: "已停止", failed: "失败" },
    states: { ready: "就绪", working: "工作中", away: "离线", quarantined: "已排除", held_out: "不参与训练" },
    steps: { "query.hello": "点名", "query.prepare": "准备", "query.secure": "密钥与求和", train: "训练",
      "evaluate.measure": "测量", "evaluate.local": "本地模型", "evaluate.final": "最终指标" },
  },
};
