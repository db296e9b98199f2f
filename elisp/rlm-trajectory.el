;;; rlm-trajectory.el --- A run as an Org buffer  -*- lexical-binding: t; -*-

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

;; The events of a run become an Org buffer that can be read while it
;; grows: a heading for the run, one for each iteration, one for each
;; sub-call, and one for the answer with links to its evidence.
;;
;; `rlm-trajectory-create' makes the buffer, `rlm-trajectory-push' of
;; rlm-trajectory-queue.el gives it an event.  Each open node has markers of
;; its own, so that sub-calls that run at the same time can't get into each
;; other's text.

;;; Code:

(require 'org)
(require 'rlm-browse)
(require 'rlm-draw)
(require 'rlm-draw-answer)
(require 'rlm-draw-calls)
(require 'rlm-draw-run)
(require 'rlm-draw-steering)
(require 'rlm-fold)
(require 'rlm-header)
(require 'rlm-keys)
(require 'rlm-node)
(require 'rlm-ol)
(require 'rlm-org)
(require 'rlm-restore)
(require 'rlm-run)
(require 'rlm-trajectory-queue)
(require 'rlm-trajectory-stream)
(require 'rlm-transcript)

(declare-function rlm-cancel "rlm-commands" (run &optional cell-only))
(declare-function rlm-cancel-child "rlm-steer" (run node))
(declare-function rlm-exec "rlm-steer" (run &optional node))
(declare-function rlm-follow-up "rlm-steer" (run question &optional options))
(declare-function rlm-note "rlm-steer" (run text &optional node))
(declare-function rlm-pause "rlm-steer" (run))
(declare-function rlm-reject "rlm-steer" (run wait reason))
(declare-function rlm-live-ctrl-c-ctrl-c "rlm-live" ())
(declare-function rlm-live-edit "rlm-live" ())
(declare-function rlm-run-code "rlm-live" (&optional all))
(declare-function rlm-variables "rlm-variables" (run &optional node))
(declare-function rlm-redraw "rlm-commands" ())
(declare-function rlm-resume-run "rlm-durable" (run &optional limits))
(declare-function rlm-fork-run "rlm-durable" (run iteration &rest changes))
(declare-function rlm-rerun "rlm-durable" (run))
(declare-function rlm-watch "rlm-durable" (run &optional budget stop))
(declare-function rlm-mark-good "rlm-reflect" (run reason))
(declare-function rlm-mark-bad "rlm-reflect" (run reason))
(declare-function rlm-ask-anew "rlm-commands" ())
(declare-function rlm-set-limits "rlm-limits" (run limits))

;;;; Commands of its own

(defun rlm-trajectory-toggle-follow ()
  "Follow the end of the buffer as it grows, or stop to do so."
  (interactive nil rlm-trajectory-mode)
  (setq rlm-trajectory-follow (not rlm-trajectory-follow))
  (when rlm-trajectory-follow
    (goto-char (point-max)))
  (message (if rlm-trajectory-follow
               "Following the run while point is at the end"
             "Not following the run")))

(defun rlm-trajectory-help ()
  "List the keys of this buffer."
  (interactive nil rlm-trajectory-mode)
  (rlm-keys-show (current-local-map) "Keys in the buffer of a run"))

;;;; The mode

(defvar rlm-trajectory-mode-map
  (let ((map (make-sparse-keymap)))
    (suppress-keymap map)
    (pcase-dolist
        (`(,key ,label ,command)
         '(("n" "next heading" rlm-trajectory-next)
           ("p" "previous heading" rlm-trajectory-previous)
           ("TAB" "fold or unfold the heading" org-cycle)
           ("RET" "visit the evidence or link at point" rlm-trajectory-follow-link)
           ("a" "go to the answer" rlm-trajectory-show-answer)
           ("A" "ask again, in spite of kept answers" rlm-ask-anew)
           ("r" "ask a further question" rlm-follow-up)
           ("t" "next iteration" rlm-browse-next-iteration)
           ("T" "previous iteration" rlm-browse-previous-iteration)
           ("u" "next sub-call or child run" rlm-browse-next-subcall)
           ("U" "previous sub-call or child run" rlm-browse-previous-subcall)
           ("o" "next piece of code" rlm-browse-next-code)
           ("O" "previous piece of code" rlm-browse-previous-code)
           ("b" "next thing that went wrong" rlm-browse-next-error)
           ("B" "previous thing that went wrong" rlm-browse-previous-error)
           ("1" "show the question alone" rlm-browse-fold)
           ("2" "show the iterations" rlm-browse-fold)
           ("3" "show their sub-calls too" rlm-browse-fold)
           ("4" "show everything" rlm-browse-fold)
           ("F" "follow the end, or don't" rlm-trajectory-toggle-follow)
           ("k" "cancel the run; with C-u only the code that runs" rlm-cancel)
           ("K" "cancel the child run at point" rlm-cancel-child)
           ("P" "pause, or go on" rlm-pause)
           ("i" "tell the model something" rlm-note)
           ("L" "change the limits" rlm-set-limits)
           (">" "raise the nearest limit by a quarter" rlm-raise-limit)
           ("<" "lower it again" rlm-lower-limit)
           ("C-c C-c" "run the code at point, or let code that waits run" rlm-run-code)
           ("e" "edit the code at point" rlm-live-edit)
           ("C-c '" "edit the code at point" rlm-live-edit)
           ("C-c C-k" "reject code that waits" rlm-reject)
           ("x" "write code and run it among the model's" rlm-exec)
           ("v" "list the variables" rlm-variables)
           ("c" "go on from where the run stopped" rlm-resume-run)
           ("f" "fork the run at point" rlm-fork-run)
           ("R" "run its program again, about the files as they are" rlm-rerun)
           ("w" "do that whenever they change" rlm-watch)
           ("+" "mark the run as good" rlm-mark-good)
           ("-" "mark the run as bad" rlm-mark-bad)
           ("g" "draw the buffer anew from the log" rlm-redraw)
           ("s" "save the transcript again" rlm-trajectory-save)
           ("SPC" "scroll on" scroll-up-command)
           ("S-SPC" "scroll back" scroll-down-command)
           ("DEL" "scroll back" scroll-down-command)
           ("q" "leave the buffer" quit-window)
           ("?" "list these keys" rlm-trajectory-help)))
      (define-key map (kbd key) (cons label command)))
    map)
  "Keys of `rlm-trajectory-mode'.")

(defconst rlm-trajectory--columns
  (concat "%40ITEM(Node) %8RLM_TOKENS(Tokens) %8RLM_COST(US$) %8RLM_SECONDS(Seconds) "
          "%9RLM_STATUS(Status) %20RLM_MODEL(Model)")
  "The columns of Org's column view; each row has the sums of all below it.
The figures are seen in 80 columns.")

(define-derived-mode rlm-trajectory-mode org-mode "rlm"
  "Major mode of the buffer that shows a run as it goes on.

\\{rlm-trajectory-mode-map}"
  :interactive nil
  ;; Org sets its own in its hook.
  :after-hook (setq-local imenu-create-index-function #'rlm-browse-imenu)
  (setq buffer-read-only t)
  (setq truncate-lines nil word-wrap t)
  (setq bidi-paragraph-direction 'left-to-right)
  (setq-local bidi-inhibit-bpa t)
  (setq-local scroll-conservatively 101)
  (rlm-trajectory--hide-joiners)
  ;; Each of these was measured to cost redisplay time while text streams in.
  (setq-local org-src-fontify-natively nil)
  (rlm-fold-light-fontification)
  (when (boundp 'long-line-threshold)
    (setq-local long-line-threshold nil))
  (setq-local header-line-format '(:eval (rlm-header-line)))
  (setq-local mode-line-process '(:eval (rlm-draw-mode-line)))
  (setq-local next-error-function #'rlm-browse-next-evidence)
  ;; The index of a run that grows is made anew each time, however long it is.
  (setq-local imenu-auto-rescan t)
  (setq-local imenu-auto-rescan-maxout most-positive-fixnum)
  (setq-local org-columns-default-format rlm-trajectory--columns)
  ;; Org 9.6 no longer does so; drawers within a fold have none of their own.
  (unless (memq #'org-cycle-hide-drawers (default-value 'org-cycle-hook))
    (add-hook 'org-cycle-hook #'org-cycle-hide-drawers nil t))
  (rlm-restore-setup)
  (add-hook 'org-ctrl-c-ctrl-c-hook #'rlm-live-ctrl-c-ctrl-c nil t)
  (buffer-disable-undo)
  (add-hook 'kill-buffer-query-functions #'rlm-trajectory--kill-p nil t))

;; A copy would be taken for the run itself; indirect buffers show it twice.
(put 'rlm-trajectory-mode 'no-clone t)

(defun rlm-trajectory--hide-joiners ()
  "Let the signs that keep Org from seeing markup take no room, in terminals too."
  (setq buffer-display-table (if buffer-display-table
                                 (copy-sequence buffer-display-table)
                               (make-display-table)))
  (dolist (sign '(#x2060 #x200b))
    (aset buffer-display-table sign [])))

(defvar rlm-trajectory-cancel-function #'ignore
  "Function called with a live run whose buffer is about to be killed.")

(defun rlm-trajectory--kill-p ()
  "Return non-nil if this buffer may be killed; a live run is cancelled then."
  (let ((run rlm-run-current))
    (cond ((buffer-base-buffer) t)      ; it shows a part of another one
          ((not (and run (rlm-run-id run) (rlm-run-live-p run))) t)
          ((or noninteractive (yes-or-no-p "This run is going on; cancel it? "))
           (funcall rlm-trajectory-cancel-function run)
           t))))

(defvar org-modules-loaded)

(defun rlm-trajectory-create (question)
  "Return a new buffer for a run that answers QUESTION."
  (with-current-buffer
      (generate-new-buffer (rlm-draw-buffer-name question))
    ;; The modules are for agendas and capture, and take most of a second to load.
    (let ((org-modules-loaded t)
          (org-inhibit-startup t))
      (rlm-trajectory-mode))
    (rlm-trajectory--begin question)
    (rlm-header-start-clock)
    (rlm-header-count)
    (current-buffer)))

(defun rlm-trajectory--begin (question)
  "Make the current buffer one for a run that answers QUESTION.
It has no event yet."
  (setq rlm-run-current (rlm-run--make :question question)
        rlm-node-table (make-hash-table :test #'equal)
        rlm-node--unlisted nil rlm-node--unshown nil
        rlm-draw--iterations nil
        rlm-trajectory--queue nil rlm-trajectory--incoming nil
        rlm-trajectory--seq -1 rlm-trajectory--replayed -1)
  (rlm-trajectory--colour-code nil)
  (let ((inhibit-read-only t))
    (widen)
    (delete-all-overlays)
    (erase-buffer)
    (insert "# -*- mode: org; coding: utf-8 -*-\n"
            "#+title: " (rlm-org-line question 200) "\n"
            "#+filetags: :rlm:\n"
            ;; What is folded needs no drawer hidden, and Org 9.7 takes long to do it.
            "#+startup: overview nohidedrawers\n"
            ;; Names such as snake_case have no subscripts; texts may hold links to nothing.
            "#+options: ^:nil broken-links:mark\n"
            ;; An export has what the code has printed, and runs nothing.
            "#+property: header-args :exports both :eval never-export\n"
            "#+columns: " rlm-trajectory--columns "\n\n")
    ;; What is for the transcript alone need not be looked at here.
    (overlay-put (make-overlay (point-min) (point)) 'invisible t)
    (rlm-draw-question)
    (goto-char (point-max))
    (set-buffer-modified-p nil)))

(defun rlm-trajectory-reset (buffer)
  "Make BUFFER empty, as before the first event of its run."
  (with-current-buffer buffer
    (let ((old rlm-run-current))
      (rlm-trajectory--begin (rlm-run-question old))
      (setf (rlm-run-id rlm-run-current) (rlm-run-id old)
            (rlm-run-log rlm-run-current) (rlm-run-log old)
            (rlm-run-transcript rlm-run-current) (rlm-run-transcript old)))
    (dolist (window (get-buffer-window-list nil nil t))
      (set-window-point window (point-max)))))

(defun rlm-trajectory-expect (buffer last-seq)
  "Let BUFFER know that its run has ended and that LAST-SEQ is its last event.
A run without an end in its log was interrupted."
  (with-current-buffer buffer
    (setq rlm-trajectory--replayed last-seq)))

(provide 'rlm-trajectory)
;;; rlm-trajectory.el ends here
