;;; rlm-tally.el --- What a node has used, with all below it  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; Each call of a model counts for its own node and for all above it, at
;; any depth.  When an iteration has ended, its properties RLM_TOKENS,
;; RLM_COST and RLM_SECONDS are those of the whole subtree, so that a column
;; view adds up; those of its own reply are RLM_REPLY_TOKENS and so on.

;;; Code:

(require 'rlm-node)
(require 'rlm-run)

(defvar-local rlm-tally-time nil
  "Time of the event that is drawn, in seconds since the epoch.")

(defun rlm-tally-add (node usage)
  "Count a call with USAGE, a plist, for NODE and all above it."
  (let ((tokens (+ (plist-get usage :promptTokens) (plist-get usage :completionTokens)))
        (cost (plist-get usage :cost)))
    (while node
      (setf (rlm-node-calls node) (1+ (rlm-node-calls node))
            (rlm-node-tokens node) (+ tokens (rlm-node-tokens node))
            (rlm-node-cost node) (and cost (rlm-node-cost node) (+ cost (rlm-node-cost node)))
            node (rlm-node-parent node)))))

(defun rlm-tally-show (node)
  "Show in NODE, an iteration that has ended, what it has used in all."
  (when (rlm-node-begun node)
    (let ((seconds (max 0 (- rlm-tally-time (rlm-node-begun node))))
          (calls (rlm-node-calls node)))
      (rlm-node-set node (append (when (> calls 1) (rlm-tally--own node))
                                 (when (> calls 0)
                                   `(("RLM_TOKENS" . ,(rlm-node-tokens node))
                                     ("RLM_COST" . ,(rlm-figure-decimal (rlm-node-cost node)))))
                                 `(("RLM_SECONDS" . ,(format "%.1f" seconds)))))
      (when (> calls 1)
        (rlm-node-retitle
         node (format " (%s, %s tokens, %s, %s)" (rlm-figure-count calls "call")
                      (rlm-figure-number (rlm-node-tokens node))
                      (rlm-tally--cost (rlm-node-cost node))
                      (rlm-figure-seconds seconds)))))))

(defun rlm-tally--cost (cost)
  "Return COST for a heading."
  (cond ((null cost) "cost unknown")
        ((zerop cost) "no cost")
        (t (rlm-figure-cost cost))))

(defun rlm-tally--own (node)
  "Return the properties of the reply of NODE itself, by names of their own."
  (delq nil (mapcar (lambda (name)
                      (let ((value (cdr (assoc (concat "RLM_" name) (rlm-node-properties node)))))
                        (and value (cons (concat "RLM_REPLY_" name) value))))
                    '("TOKENS" "COST" "SECONDS"))))

(provide 'rlm-tally)
;;; rlm-tally.el ends here
